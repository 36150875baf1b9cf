package api

import (
	"strconv"
	"strings"
	"unicode"
)

// Printable replaces whatever a terminal would carry out, or show as something else, with
// its escape sequence in Go. Names and errors of other hosts go through it before people
// see them. Line breaks and tabs stay.
func Printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if unprintable(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			out.WriteString(quoted[1 : len(quoted)-1])
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

func unprintable(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }

// oneLine is Printable without line breaks, so that no text looks like two.
func oneLine(s string) string { return strings.ReplaceAll(Printable(s), "\n", "; ") }
