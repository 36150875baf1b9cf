package ledger

// FailDisk has everything fail that this keeper asks of its disk from now on.
func (l *Ledger) FailDisk(cause error) { l.kept().log.ailing.note(cause) }
