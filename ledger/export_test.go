package ledger

import "go.etcd.io/bbolt"

// FailDisk has everything fail that this keeper asks of its disk from now on.
func (l *Ledger) FailDisk(cause error) { l.kept().log.ailing.note(cause) }

// DiskWrites counts the transactions of this keeper's disk; each is two syncs.
func (l *Ledger) DiskWrites() (n int) {
	_ = l.kept().log.view(func(tx *bbolt.Tx) error { // fails with the log alone
		n = tx.ID()
		return nil
	})
	return n
}
