package packaging

import (
	"os"
	"os/exec"
	"testing"
)

// TestAnsibleLint judges the playbooks by the strictest of its profiles.
func TestAnsibleLint(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	if _, err := exec.LookPath("ansible-lint"); err != nil {
		t.Skip("there is no ansible-lint (Debian's package of that name)")
	}
	const dir = "../examples/ansible"
	for _, args := range [][]string{
		{"ansible-playbook", "--syntax-check", "site.yml", "remove.yml"},
		{"ansible-lint", "--offline", "--profile", "production", "--strict", "site.yml", "remove.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NO_COLOR=1", "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
