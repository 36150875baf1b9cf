// Package synced makes "on disk first" a matter of types: a function that gives a right
// away to somebody else takes a Value, and only a disk that has synced makes one. It is
// apart from store so that who takes a Value need not know the database.
package synced

// Disk keeps records. Commit returns when they are synced; a failed one has changed
// nothing.
type Disk interface {
	Commit(set map[string][]byte, del ...string) error
}

// Value is a value with the proof that the change which gives it away is on disk. The
// zero Value proves nothing.
type Value[T any] struct {
	value  T
	synced bool
}

// Commit writes the change, waits for the sync and answers with the proof.
func Commit[T any](d Disk, value T, set map[string][]byte, del ...string) (Value[T], error) {
	if err := d.Commit(set, del...); err != nil {
		return Value[T]{}, err
	}
	return Value[T]{value: value, synced: true}, nil
}

// Get returns the value, which may be given away now. It panics for the zero Value: nothing was
// written, and to go on would give an address twice.
func (v Value[T]) Get() T {
	if !v.synced {
		panic("synced: a value that was not written to disk is not given away")
	}
	return v.value
}
