// Package receipt makes "on disk first" a matter of types: what gives somebody else a
// right asks for a Receipt, and only a disk that has synced gives one.
package receipt

// Disk keeps records. Commit returns when they are synced; a failed one has changed
// nothing.
type Disk interface {
	Commit(set map[string][]byte, del ...string) error
}

// Receipt proves that a change which gives something away is on disk. The zero
// Receipt proves nothing.
type Receipt[T any] struct {
	of   T
	kept bool
}

// Commit writes the change and answers with its receipt.
func Commit[T any](d Disk, of T, set map[string][]byte, del ...string) (Receipt[T], error) {
	if err := d.Commit(set, del...); err != nil {
		return Receipt[T]{}, err
	}
	return Receipt[T]{of: of, kept: true}, nil
}

// Of is what may be given away now. It panics for the zero Receipt: then nothing was
// written, and to go on would give an address twice.
func (r Receipt[T]) Of() T {
	if !r.kept {
		panic("receipt: what was not written down is not given away")
	}
	return r.of
}
