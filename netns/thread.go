package netns

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on a thread of its own that ends with it, so that fn may
// enter namespaces and need not find the way back. The main thread would not
// end, and /proc/self shows its namespaces, so it is never the one.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(fn)     // while this goroutine occupies the main thread
			runtime.UnlockOSThread() //nolint:forbidigo // the main thread has entered nothing
			return
		}
		done <- fn()
	}()
	return <-done
}
