package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// marathon is one with an app of an instance, in a Mesos cluster of two agents; after so many puts somebody calls end.
func marathon(t *testing.T, until int32, end func()) (url string, puts *atomic.Int32) {
	t.Helper()
	puts = new(atomic.Int32)
	answers := map[string]string{
		"/v2/info":      `{"marathon_config":{"mesos_leader_ui_url":"/mesos"}}`,
		"/v2/apps/weft": `{"app":{"instances":1,"constraints":[["hostname","UNIQUE"]]}}`,
		"/mesos/slaves": `{"slaves":[{"hostname":"a","pid":"slave(1)@192.0.2.1:5051"},{"hostname":"b","pid":"slave(1)@192.0.2.2:5051"}]}`,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && puts.Add(1) == until {
			end()
		}
		fmt.Fprint(w, answers[r.URL.Path])
	}))
	t.Cleanup(s.Close)
	return s.URL, puts
}

func TestEverywhere(t *testing.T) {
	at, puts := marathon(t, 0, nil)
	for _, c := range []struct {
		args, out, err string
		puts           int32
	}{
		{"--marathon " + at + " --once --dry-run", "/weft has 1 instances on 2 agents: would tell Marathon to run 2\n", "", 0},
		{"--marathon " + at + " --once --json", `{"app":"/weft","agents":2,"instances":1,"want":2,"suspended":false,"settling":false,"changed":true}` + "\n", "", 1},
		{"--marathon " + at + " --once --master " + at + "/none", "", "cannot be read", 1},
		{"--once", "", `--marathon is "", want a URL`, 1},
		{"--marathon " + at + " --master zk://a,b:2181/mesos", "", "--master is", 1},
		{"--marathon " + at + " --every 10ms", "", "a second or more", 1},
	} {
		cmd := root("test")
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs(append([]string{"mesos", "everywhere"}, strings.Fields(c.args)...))
		err := cmd.ExecuteContext(t.Context())
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || out.String() != c.out || puts.Load() != c.puts {
			t.Errorf("%s: %q, %v and %d changes, want %q, %q and %d", c.args, out.String(), err, puts.Load(), c.out, c.err, c.puts)
		}
	}
}

// TestEverywhereWatches until it is told to end, and says what is the same once.
func TestEverywhereWatches(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at, puts := marathon(t, 3, cancel) // which never takes effect, so that it is told again
	cmd := root("test")
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"mesos", "everywhere", "--marathon", at, "--every", "1s"})
	if err := cmd.ExecuteContext(ctx); err != nil || puts.Load() != 3 {
		t.Errorf("%v, after %d changes", err, puts.Load())
	}
	if said := strings.Count(out.String(), "\n"); said != 1 {
		t.Errorf("it says\n%s", out.String())
	}
}
