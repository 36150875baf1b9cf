package lease

// Leave records that the caller is about to ask the ledger to let this host leave. From
// now on the host hands out nothing new until the ledger accepts a later renewal.
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
	l.notify()
	return nil
}

// Stay records that the ledger has refused to let this host leave.
func (l *Lease) Stay() error {
	defer l.writing.Wait()()
	if err := l.disk.Commit(nil, leavingKey); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = nil
	l.notify()
	return nil
}

// Leaving reports whether it is on disk that an operator made this host leave.
func (l *Lease) Leaving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving != nil
}

// HasLeft reports whether this identity left because an operator said so.
func (l *Lease) HasLeft() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fence != nil && l.fence.Left
}
