package lease

// Leave takes in that the ledger is about to be told that this host leaves: nothing new
// is handed out from now on, until the ledger accepts a later renewal.
func (l *Lease) Leave() error {
	now, err := l.clocks.Now()
	if err != nil {
		return err
	}
	defer l.writing.Wait()()
	if err := l.disk.Commit(map[string][]byte{leavingKey: {1}}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = &now
	l.tell()
	return nil
}

// Stay takes in that the ledger has refused to let this host leave.
func (l *Lease) Stay() error {
	defer l.writing.Wait()()
	if err := l.disk.Commit(nil, leavingKey); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = nil
	l.tell()
	return nil
}

// Leaving reports whether the operator's word is on disk that this host leaves.
func (l *Lease) Leaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving != nil
}

// HasLeft reports whether this identity left by an operator's word.
func (l *Lease) HasLeft() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fence != nil && l.fence.Left
}
