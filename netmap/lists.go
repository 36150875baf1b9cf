package netmap

import "slices"

// edit is one change of a list: a value to put into it, in the place of an equal one, or one to
// take out.
type edit[T any] struct {
	value T
	gone  bool
}

// edits are changes of a list that is sorted, in the order in which they happened.
type edits[T any] []edit[T]

func (e *edits[T]) put(value T, gone bool) { *e = append(*e, edit[T]{value, gone}) }

// applied returns a list, sorted by compare, with the edits, and forgets them. The old list
// stays as it is; without edits it is the result. An empty result is nil.
func (e *edits[T]) applied(old []T, compare func(a, b T) int) []T {
	changes := *e
	if *e = nil; len(changes) == 0 {
		return old
	}
	slices.SortStableFunc(changes, func(a, b edit[T]) int { return compare(a.value, b.value) })
	out := make([]T, 0, len(old)+len(changes))
	for i, c := range changes {
		if i+1 < len(changes) && compare(c.value, changes[i+1].value) == 0 {
			continue // the last one counts
		}
		at, found := slices.BinarySearchFunc(old, c.value, compare)
		out = append(out, old[:at]...)
		if old = old[at:]; found {
			old = old[1:]
		}
		if !c.gone {
			out = append(out, c.value)
		}
	}
	if out = append(out, old...); len(out) == 0 {
		return nil
	}
	return out
}
