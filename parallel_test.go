package main_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestEndToEndTestsAreParallel: they wait for the hosts that they need, which another may have
// until all that are not parallel have ended.
func TestEndToEndTestsAreParallel(t *testing.T) {
	tests := 0
	for _, s := range sources(t) {
		if s.room != "e2e" {
			continue
		}
		for _, m := range regexp.MustCompile(`(?ms)^func (TestIntegration\w+)\(.*?^}`).FindAllStringSubmatch(s.text, -1) {
			tests++
			if !strings.Contains(m[0], "\tt.Parallel()\n") {
				t.Errorf("%s is not parallel", m[1])
			}
		}
	}
	if tests == 0 {
		t.Error("no end-to-end test was found")
	}
}
