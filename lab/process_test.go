package lab

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	tail := " S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n"
	for _, name := range []string{"sh", "a b", "a) Z 1 (", ")"} {
		state, started, err := parseStat([]byte("42 (" + name + ")" + tail))
		if err != nil || state != 'S' || started != 4711 {
			t.Errorf("%q: state %c, started %d, %v", name, state, started, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S 1 2", "42 (x)" + strings.Replace(tail, "4711", "x", 1)} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parseStat(b) })
}

func TestInnerNumber(t *testing.T) {
	for status, want := range map[string]string{
		"Name:\tsh\nPid:\t9\nNSpid:\t900\t45\nNSpgid:\t1\n": "45",
		"Name:\tsh\nNSpid:\t900\n":                          "900",
		"Name:\tNSpid:\n":                                   "",
		"Name:\tx\nNSpid:\n":                                "",
	} {
		if got := innerNumber(status); got != want {
			t.Errorf("%q: %q, want %q", status, got, want)
		}
	}
}

// A reused number must never be killed: the start time decides.
func TestProcessIsToldFromALaterOne(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil || !p.Alive() {
		t.Fatalf("%+v, %v", p, err)
	}
	earlier := Process{PID: p.PID, Started: p.Started - 1}
	if earlier.Alive() {
		t.Error("a process with another start time passes for alive")
	}
	if err := earlier.signal(t.Context(), unix.SIGKILL, time.Second); err != nil {
		t.Error(err)
	}
	if !p.Alive() {
		t.Fatal("the kill meant for an earlier process hit this one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.signal(ctx, unix.Signal(0), time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting under an ended context: %v", err)
	}
	if err := p.signal(t.Context(), unix.Signal(0), 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("waiting for a process that goes on: %v", err)
	}
	if err := p.signal(t.Context(), unix.SIGKILL, 10*time.Second); err != nil {
		t.Error(err)
	}
	if p.Alive() {
		t.Error("an ended process that nobody has collected passes for alive")
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
	if (Process{}).Alive() {
		t.Error("no process passes for alive")
	}
}

func TestRecordOfAnotherBootHasNoProcesses(t *testing.T) {
	text := `{"version": 1, "boot": "one", "switch": {"pid": 5, "started": 6}, "cgroups": ["/x"],
	  "hosts": {"1": {"holder": {"pid": 7, "started": 8}, "docker_args": ["--debug"]}}, "cuts": [{"from": 1, "to": 2}]}`
	same, err := decodeRecord([]byte(text), "one")
	if err != nil || same.Switch.PID != 5 || same.Hosts[1].Holder.PID != 7 || len(same.Cuts) != 1 {
		t.Errorf("%+v, %v", same, err)
	}
	other, err := decodeRecord([]byte(text), "two")
	want := Record{
		Version: 1, Boot: "two", Cgroups: []string{"/x"},
		Hosts: map[int]HostRecord{1: {DockerArgs: []string{"--debug"}}},
	}
	if diff := cmp.Diff(want, other); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for bad, want := range map[string]string{"{": "damaged", `{"version": 2}`: "format 2", "[]": "damaged"} {
		if _, err := decodeRecord([]byte(bad), "one"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		}
	}
}

func TestNotebook(t *testing.T) {
	n := notebook{t.TempDir()}
	if _, err := n.read(); !errors.Is(err, errNotUp) {
		t.Errorf("no record: %v", err)
	}
	done := make(chan error)
	for i := range 8 {
		go func() { done <- n.changeHost(i, func(h *HostRecord) { h.Holder.PID = 100 + i }) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r, err := n.read()
	if err != nil || len(r.Hosts) != 8 || r.Hosts[7].Holder.PID != 107 {
		t.Errorf("changes at once were lost: %+v, %v", r.Hosts, err)
	}
}
