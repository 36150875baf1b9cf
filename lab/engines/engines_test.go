package engines

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const output = `=== RUN   TestIntegrationOne
=== PAUSE TestIntegrationOne
=== RUN   TestIntegrationTwo
=== RUN   TestIntegrationTwo/part
=== RUN   TestIntegrationThree
=== RUN   TestIntegrationFour
lab: host-1 up
=== NAME  TestIntegrationThree
    ipv6_test.go:12: needs Docker 28
--- SKIP: TestIntegrationThree (0.00s)
=== CONT  TestIntegrationOne
--- PASS: TestIntegrationOne (1.50s)
    --- FAIL: TestIntegrationTwo/part (0.10s)
--- FAIL: TestIntegrationTwo (0.10s)
panic: test timed out
`

func TestATableOfWhatWasReported(t *testing.T) {
	old, err := Read("20.10", strings.NewReader(output))
	if err != nil {
		t.Fatal(err)
	}
	newer, err := Read("28.5", strings.NewReader("=== RUN   TestIntegrationOne\n--- PASS: TestIntegrationOne (0.01s)\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := `Commit abc.

| test | 20.10 | 28.5 |
| --- | --- | --- |
| passed | 1 of 4 | 1 of 1 |
| ` + "`TestIntegrationFour`" + ` | HAS NO END |  |
| ` + "`TestIntegrationOne`" + ` | passes | passes |
| ` + "`TestIntegrationThree`" + ` | skipped |  |
| ` + "`TestIntegrationTwo`" + ` | FAILS |  |

Skipped:

- ` + "`TestIntegrationThree`" + ` on 20.10: needs Docker 28
`
	if diff := cmp.Diff(want, Table("abc", []Run{old, newer})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnOutputWithoutTests(t *testing.T) {
	if _, err := Read("20.10", strings.NewReader("# build failed\n")); err == nil {
		t.Error("taken for a run")
	}
}
