package store

// Next gives tests the identity of the next start.
func (id Identity) Next() Identity { return id.next() }
