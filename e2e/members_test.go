package e2e

import "github.com/weftnet/weft/lab"

// alone waits until no other test uses the members, and keeps others off them until the
// test ends. Tests on spare hosts go on meanwhile. A test that disturbs the members begins with it.
func (s *scene) alone() {
	s.entry.Do(func() {
		s.rig.alone.Lock()
		s.leave = s.rig.alone.Unlock
	})
}

// touch is called before anything is done on a host. The first time that it is a member, the
// test waits until no other test has the members alone and few use them.
func (s *scene) touch(h *lab.Host) {
	if h.Number() > members {
		return
	}
	s.entry.Do(func() {
		s.beside <- struct{}{}
		s.rig.alone.RLock()
		s.leave = func() {
			s.rig.alone.RUnlock()
			<-s.beside
		}
	})
}
