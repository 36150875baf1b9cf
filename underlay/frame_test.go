package underlay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftnet/weft/netmap"
)

func anyLength(int) error { return nil }

func TestQuestionsComeBackAsTheyWere(t *testing.T) {
	for _, want := range []question{
		{name: "a"},
		{patience: 1500 * time.Millisecond, name: "ledger.do", body: []byte("{}")},
		{patience: time.Hour, name: strings.Repeat("n", maxName), body: bytes.Repeat([]byte{0}, 70000)},
	} {
		frame, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		inner, err := readFrame(bytes.NewReader(frame), len(frame), anyLength)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeQuestion(inner)
		if err != nil {
			t.Fatal(err)
		}
		if got.patience != want.patience || got.name != want.name || !bytes.Equal(got.body, want.body) {
			t.Errorf("%q came back as %q after %v with %d bytes", want.name, got.name, got.patience, len(got.body))
		}
	}
}

func TestQuestionsThatAreRefused(t *testing.T) {
	for name, q := range map[string]question{
		"no name":   {},
		"long name": {name: strings.Repeat("n", maxName+1)},
		"long body": {name: "x", body: make([]byte, MaxBody+1)},
	} {
		if _, err := q.encode(); err == nil {
			t.Errorf("%s: was encoded", name)
		}
	}
}

func TestAnswersCarryErrorsAcross(t *testing.T) {
	refusal := netmap.Refuse(netmap.Held, "10.40.0.7 is held by web-2 on host-b")
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"a refusal", refusal, refusal},
		{"a wrapped refusal", fmt.Errorf("ledger: %w", refusal), refusal},
		{"another error", errors.New("disk on fire"), &RemoteError{Text: "disk on fire"}},
	} {
		frame := answerOf(nil, c.err).encode()
		inner, err := readFrame(bytes.NewReader(frame), len(frame), anyLength)
		if err != nil {
			t.Fatal(err)
		}
		a, err := decodeAnswer(inner)
		if err != nil {
			t.Fatal(err)
		}
		_, got := a.result()
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestReadFrameTakesNoMemoryOnTrust(t *testing.T) {
	frame := append([]byte{0x00, 0xff, 0xff, 0xff}, "short"...)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readFrame(bytes.NewReader(frame), MaxBody, anyLength); !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatalf("got %v", err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 64<<10 {
		t.Errorf("%d bytes allocated for a frame that never came", allocated)
	}
}

func TestReadFrameRefusesLongFrames(t *testing.T) {
	if _, err := readFrame(strings.NewReader("GET / HTTP/1.1\r\n"), MaxBody, anyLength); !errors.Is(err, errFrame) {
		t.Errorf("got %v, want a refusal: 'GET ' is a length over the limit", err)
	}
}

func FuzzFrames(f *testing.F) {
	q, _ := question{patience: time.Second, name: "ledger.do", body: []byte(`{"v":1}`)}.encode()
	f.Add(q)
	f.Add(answerOf(nil, netmap.Refuse(netmap.Held, "held")).encode())
	f.Add(answerOf([]byte("ok"), nil).encode())
	f.Add([]byte{0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		inner, err := readFrame(bytes.NewReader(b), 1<<16, anyLength)
		if err != nil {
			return
		}
		if q, err := decodeQuestion(inner); err == nil {
			again, err := q.encode()
			if err != nil || !bytes.Equal(again[4:], inner) {
				t.Errorf("%x decoded and encoded to %x, %v", inner, again, err)
			}
		}
		if a, err := decodeAnswer(inner); err == nil {
			if body, err := a.result(); err == nil && !bytes.Equal(body, inner[1:]) {
				t.Errorf("%x gave the body %x", inner, body)
			}
		}
	})
}

func FuzzPreface(f *testing.F) {
	f.Add([]byte("Wxyz"))
	p := prefaceOf(KindLedger)
	f.Add(p[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < prefaceLen {
			return
		}
		p := preface(b[:prefaceLen])
		if kind, err := p.kind(); err == nil && prefaceOf(kind) != p {
			t.Errorf("% x passed for kind %q", p, kind)
		}
	})
}

func TestPrefacesOfTwoReleases(t *testing.T) {
	before := protocol
	t.Cleanup(func() { protocol = before })
	later := prefaceOf(KindLedger)
	later[2]++
	if kind, err := later.kind(); err == nil {
		t.Errorf("a preface of a later release is of kind %c", kind)
	}
	protocol.Newest++
	for _, p := range []preface{later, prefaceOf(KindLedger)} {
		if kind, err := p.kind(); err != nil || kind != KindLedger {
			t.Errorf("% x is not read by the next release: %v", p, err)
		}
	}
}

func TestPrefaceIsNothingThatMemberlistSends(t *testing.T) {
	first := prefaceOf(KindGossip)[0]
	if first <= 32 || first == 244 {
		t.Errorf("a preface begins with %d, which is a memberlist message type or its label", first)
	}
}
