package store_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/store"
)

// childDir, when set, makes this test binary the agent that gets killed; childPages
// is the size of its journal.
const (
	childDir   = "STORE_TEST_CHILD"
	childPages = "STORE_TEST_CHILD_PAGES"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		storm(dir)
	}
	os.Exit(m.Run())
}

// storm commits for ever from several callers and prints each key only when its
// commit has returned.
func storm(dir string) {
	pages, err := strconv.Atoi(os.Getenv(childPages))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	s, err := store.OpenSmall(dir, pages)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	life := s.Identity().Start
	var out sync.Mutex
	for c := range 8 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d/%d/%d", life, c, i)
				if err := s.Bucket("ipam").Commit(map[string][]byte{key: []byte(key), key + "+": nil}); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(key)
				out.Unlock()
			}
		}()
	}
	select {}
}

// TestKilledInTheMiddle kills the process at random moments: whatever was answered
// is there afterwards, nothing is there by half, and each start is a new incarnation. With
// four pages nearly every second commit makes a checkpoint.
func TestKilledInTheMiddle(t *testing.T) {
	for _, pages := range []int{4, 1024} {
		t.Run(fmt.Sprintf("pages=%d", pages), func(t *testing.T) { killAgainAndAgain(t, pages) })
	}
}

func killAgainAndAgain(t *testing.T, pages int) {
	dir := t.TempDir()
	answered := map[string]bool{}
	const lives = 20
	for range lives {
		for _, key := range killedLife(t, dir, pages) {
			answered[key] = true
		}
	}
	s := open(t, dir)
	if got := s.Identity().Start; got != lives+1 {
		t.Errorf("start number %d after %d lives", got, lives)
	}
	onDisk := load(t, s.Bucket("ipam"))
	for key := range answered {
		if onDisk[key] != key {
			t.Errorf("%s was answered and is lost", key)
		}
	}
	for key := range onDisk {
		if _, whole := onDisk[strings.TrimSuffix(key, "+")+"+"]; !whole {
			t.Errorf("%s is there by half", key)
		}
	}
	if len(answered) == 0 {
		t.Error("no life answered anything")
	}
	t.Logf("%d lives, %d answered commits, %d on disk", lives, len(answered), len(onDisk)/2)
}

// killedLife runs one storm, kills it after its first answers and returns them.
func killedLife(t *testing.T, dir string, pages int) (answered []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s=%d", childPages, pages))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	limit := 1 + rand.IntN(60)
	for len(answered) < limit && lines.Scan() {
		answered = append(answered, lines.Text())
	}
	time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
	for lines.Scan() {
		answered = append(answered, lines.Text())
	}
	_ = cmd.Wait() // "killed" is what we asked for
	for _, l := range answered {
		if strings.HasPrefix(l, "error") {
			t.Fatalf("the agent failed: %s", l)
		}
	}
	return answered
}
