package main_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocsCiteTestsThatExist: an argument that points to a test is worth what the
// test is.
func TestDocsCiteTestsThatExist(t *testing.T) {
	exists := map[string]bool{}
	for _, s := range sources(t) {
		for _, f := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(s.text, -1) {
			exists[f[1]] = true
		}
	}
	cited := 0
	each(t, func(file string) {
		if !strings.HasSuffix(file, ".md") {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1) {
			cited++
			if !exists[name[1]] {
				t.Errorf("%s cites %s, which does not exist", file, name[1])
			}
		}
	})
	if cited == 0 {
		t.Error("no test is cited anywhere: is this looking in the wrong place?")
	}
}
