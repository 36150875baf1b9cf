package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheTreeIsWhatACommitWouldHave: scripts/tree.sh says before a commit what it says after
// it, since the seeds of the exact simulation derive from that.
func TestTheTreeIsWhatACommitWouldHave(t *testing.T) {
	c := newCheckout(t)
	c.git("init", "-q")
	c.git("add", ".")
	c.committed("what is staged for the first commit")
	before := c.tree()
	c.write("main.go", "package main // changed\n")
	if changed := c.tree(); changed == before {
		t.Errorf("a file was changed, and the tree is %s as before", changed)
	}
	if staged := c.git("diff", "--cached", "--name-only"); staged != "" {
		t.Errorf("the script has staged %s", staged)
	}
	c.committed("a change that is not staged", "-a")
	before = c.tree()
	c.write("README.md", "changed\n")
	c.committed("a change of what is no source", "-a")
	if c.tree() == before {
		t.Error("a file that is no source was changed, and the tree is as before")
	}
	before = c.tree()
	c.write("new.go", "package main\n")
	if c.tree() != before {
		t.Error("a new file that is not staged counts")
	}
	c.git("add", "new.go")
	c.committed("a new file that is staged")
}

// TestTheTreeSeesAChangeOfTheSameMoment: git looks into a file that is as old as its index,
// and an index that was copied must not look newer.
func TestTheTreeSeesAChangeOfTheSameMoment(t *testing.T) {
	c := newCheckout(t)
	c.git("init", "-q")
	c.git("config", "core.trustctime", "false") // a test can set mtime only
	c.git("add", ".")
	moment := time.Now().Add(-time.Hour).Truncate(time.Second)
	at := func(name string) {
		t.Helper()
		if err := os.Chtimes(filepath.Join(c.dir, name), moment, moment); err != nil {
			t.Fatal(err)
		}
	}
	at("README.md")
	c.git("add", "--renormalize", "README.md")
	at(".git/index")
	before := c.tree()
	c.write("README.md", "changed\n") // as long as before
	at("README.md")
	if c.tree() == before {
		t.Errorf("a file was changed in the second in which it was staged, and the tree is %s as before", before)
	}
}

// TestTheTreeOfAnotherUsersRepository is its tree, too: git as root refuses to read one.
func TestTheTreeOfAnotherUsersRepository(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("gives files to another user")
	}
	c := newCheckout(t)
	c.git("init", "-q")
	c.git("add", ".")
	want := c.tree()
	if out, err := exec.CommandContext(t.Context(), "chown", "-R", "65534", c.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := c.tree(); got != want {
		t.Errorf("the tree is %s, want %s", got, want)
	}
}

// TestTheTreeWithoutGit is a sum of the sources, of those that are there and not of a
// repository around them.
func TestTheTreeWithoutGit(t *testing.T) {
	c, same := newCheckout(t), newCheckout(t)
	before := c.tree()
	if got := same.tree(); got != before {
		t.Errorf("the same sources are %s and %s", before, got)
	}
	c.write("build/made.go", "package made\n")
	if c.tree() != before {
		t.Error("what is built counts")
	}
	c.write("part/part.go", "package part // changed\n")
	if c.tree() == before {
		t.Error("a source was changed, and the sum is as before")
	}
	around := checkout{t, filepath.Dir(same.dir)}
	around.git("init", "-q")
	around.git("add", ".")
	if got := same.tree(); got != before {
		t.Errorf("inside another repository the sum is %s, want %s", got, before)
	}
}

// checkout is a directory with some files of a project and the script.
type checkout struct {
	t   *testing.T
	dir string
}

func newCheckout(t *testing.T) checkout {
	t.Helper()
	script, err := os.ReadFile("scripts/tree.sh")
	if err != nil {
		t.Fatal(err)
	}
	c := checkout{t, filepath.Join(t.TempDir(), "project")}
	for name, text := range map[string]string{
		"scripts/tree.sh": string(script), "README.md": "read me\n", ".gitignore": "/build/\n",
		"main.go": "package main\n", "part/part.go": "package part\n",
	} {
		c.write(name, text)
	}
	return c
}

func (c checkout) write(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// tree is what the script prints.
func (c checkout) tree() string {
	c.t.Helper()
	return c.run("bash", "scripts/tree.sh")
}

func (c checkout) git(args ...string) string {
	c.t.Helper()
	return c.run("git", append([]string{"-c", "user.name=test", "-c", "user.email=test@localhost"}, args...)...)
}

// committed commits and checks that the script said the commit's tree before and says it after.
func (c checkout) committed(what string, args ...string) {
	c.t.Helper()
	before := c.tree()
	c.git(append([]string{"commit", "-q", "-m", what}, args...)...)
	want := c.git("rev-parse", "HEAD^{tree}")
	if after := c.tree(); before != want || after != want {
		c.t.Errorf("%s: the tree is %s before the commit and %s after it, want %s", what, before, after, want)
	}
}

func (c checkout) run(name string, args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), name, args...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}
