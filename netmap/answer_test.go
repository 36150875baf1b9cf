package netmap

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// said makes a copy in which some hosts have said something.
func said(t *testing.T, life uint64, hosts, records int) *Map {
	t.Helper()
	m := NewMap(hostID(99))
	for h := range hosts {
		says(t, m, hostID(byte(h+1)), life, records)
	}
	return m
}

func says(t *testing.T, m *Map, host ID, life uint64, records int) {
	t.Helper()
	var changes []Change
	for n := range records {
		id := EndpointID(fmt.Sprintf("%060x%04x", host[:8], n))
		changes = append(changes, Change{Key: EndpointKey(id), Value: Endpoint{ID: id, Network: 5}})
	}
	if _, err := m.Append(host, life, changes); err != nil {
		t.Fatal(err)
	}
}

// ask has one copy pull everything from another, and returns the bytes of the answers.
func ask(t *testing.T, to, from *Map, limit int) (size, requests int) {
	t.Helper()
	var whole Batch
	for pulls := to.Compare(from.Heads()); len(pulls) > 0; requests++ {
		asked, err := DecodePulls(AppendPulls(nil, pulls[:min(len(pulls), MaxPulls)]))
		if err != nil {
			t.Fatal(err)
		}
		answer := from.AppendAnswer(nil, asked, limit)
		size += len(answer)
		parts, _, err := DecodeAnswer(answer)
		if err != nil || len(parts) == 0 {
			t.Fatal(len(parts), err)
		}
		pulls = nil
		for _, part := range parts {
			b, ok := to.Expand(part, to.logSum(part.Batch.Origin))
			if !ok {
				t.Fatalf("%+v cannot be completed", part)
			}
			if len(whole.Records) > 0 {
				b, _ = whole.Join(b)
			}
			if whole = (Batch{}); b.Whole && part.More {
				whole = b
				pulls = append(pulls, Pull{Origin: b.Origin, Life: b.Life, After: b.LastKey()})
				continue
			}
			if _, err := to.Apply(b); err != nil {
				t.Fatal(err)
			}
		}
		if len(pulls) == 0 {
			pulls = to.Compare(from.Heads())
		}
	}
	return size, requests
}

func (m *Map) logSum(origin ID) uint64 {
	h, _ := m.Head(origin)
	return h.Sum
}

func TestOneAnswerHasManyLogs(t *testing.T) {
	from, to := said(t, 1, 100, 3), NewMap(hostID(99))
	if _, requests := ask(t, to, from, 1<<20); requests != 1 {
		t.Errorf("%d requests for 100 logs", requests)
	}
	if diff := cmp.Diff(from.Heads(), to.Heads()); diff != "" {
		t.Error(diff)
	}
	to = NewMap(hostID(99)) // in small answers, most of them with a part of one log
	if size, requests := ask(t, to, from, 200); requests < 100 || size > 600*requests {
		t.Errorf("%d requests, %d bytes", requests, size)
	}
	if diff := cmp.Diff(from.Heads(), to.Heads()); diff != "" {
		t.Error(diff)
	}
}

// TestARestartThatSaysTheSameIsShort: the answer says so, and the copy is as good as one that
// took everything in.
func TestARestartThatSaysTheSameIsShort(t *testing.T) {
	from, to, other := said(t, 1, 1, 50), NewMap(hostID(99)), NewMap(hostID(99))
	whole, _ := ask(t, to, from, 1<<20)
	says(t, from, hostID(1), 2, 50)
	again, _ := ask(t, to, from, 1<<20)
	if t.Logf("50 endpoints: %d bytes, after a restart %d", whole, again); again > whole/20 {
		t.Errorf("%d bytes for what is known", again)
	}
	ask(t, other, from, 1<<20)
	b, _ := other.Snapshot(hostID(1))
	got, _ := to.Snapshot(hostID(1))
	if diff := cmp.Diff(b, got, compareAddrs); diff != "" {
		t.Error(diff)
	}
	says(t, from, hostID(1), 3, 49)
	if ask(t, to, from, 1<<20); to.logSum(hostID(1)) != from.logSum(hostID(1)) {
		t.Error("the third start is missing")
	}
}

// TestAPartThatIsTheSameFitsOneCopyOnly: one that changed meanwhile asks again.
func TestAPartThatIsTheSameFitsOneCopyOnly(t *testing.T) {
	from, to := said(t, 1, 1, 5), said(t, 1, 1, 5)
	says(t, from, hostID(1), 2, 5)
	pulls := to.Compare(from.Heads())
	parts, _, err := DecodeAnswer(from.AppendAnswer(nil, pulls, 1<<20))
	if err != nil || len(parts) != 1 || !parts[0].Same {
		t.Fatalf("%+v, %v", parts, err)
	}
	for name, other := range map[string]*Map{"another": said(t, 1, 1, 4), "none": NewMap(hostID(99))} {
		if _, ok := other.Expand(parts[0], pulls[0].Sum); ok {
			t.Errorf("%s copy is completed", name)
		}
	}
	short := parts[0]
	short.Seqs = short.Seqs[1:]
	if _, ok := to.Expand(short, pulls[0].Sum); ok {
		t.Error("a part with a record less is completed")
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	m := NewMap(hostID(99))
	for _, life := range []uint64{1, 2} {
		if _, err := m.Append(hostID(1), life, []Change{{Key: NetworkKey(4), Value: Network{ID: 4}}}); err != nil {
			f.Fatal(err)
		}
		f.Add(m.AppendAnswer(nil, []Pull{{Origin: hostID(1), Sum: m.logSum(hostID(1))}}, 100))
		f.Add(m.AppendAnswer(nil, []Pull{{Origin: hostID(1)}, {Origin: hostID(2)}}, 100))
	}
	f.Fuzz(func(t *testing.T, buf []byte) {
		parts, _, err := DecodeAnswer(buf)
		if err != nil && !errors.Is(err, ErrMalformed) || len(parts) > MaxPulls {
			t.Fatal(len(parts), err)
		}
		to := NewMap(ID{})
		for _, part := range parts {
			for range 2 {
				b, ok := to.Expand(part, to.logSum(part.Batch.Origin))
				if !ok {
					continue
				}
				if _, err := to.Apply(b); err != nil && !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
			}
		}
	})
}
