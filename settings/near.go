package settings

import (
	"slices"
	"strings"
)

// suggest names the known words that are at most two typing mistakes away from
// word, the nearest first, or else all of them.
func suggest(word string, known []string) string {
	const most = 2
	type candidate struct {
		name string
		far  int
	}
	var near []candidate
	for _, name := range known {
		if d := distance(word, name); d <= most {
			near = append(near, candidate{name, d})
		}
	}
	if len(near) == 0 {
		return "want one of " + strings.Join(known, ", ")
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.far - b.far })
	var list []string
	for _, c := range near {
		list = append(list, c.name)
	}
	return "perhaps " + strings.Join(list, " or ") + " is meant"
}

// distance is the number of bytes to insert, delete or replace to turn a into b
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
