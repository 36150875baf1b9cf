package netns

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on a thread of its own that ends with it, so that fn may enter
// namespaces without leaving them again. It never uses the main thread, which would not
// end, and whose namespaces /proc/self shows.
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
