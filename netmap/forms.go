package netmap

import "strconv"

// Forms are the forms of a message between hosts: those that this release reads, and the one
// that it writes. A release that brings a new form reads it and writes the old one; the next
// release writes it. So hosts of two releases in a row read each other.
type Forms struct{ Oldest, Written, Newest byte }

// Reads reports whether this release reads a form.
func (f Forms) Reads(form byte) bool { return f.Oldest <= form && form <= f.Newest }

// String is what is read, for people.
func (f Forms) String() string {
	if f.Oldest == f.Newest {
		return strconv.Itoa(int(f.Oldest))
	}
	return strconv.Itoa(int(f.Oldest)) + " to " + strconv.Itoa(int(f.Newest))
}
