package rpc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes the plugin's socket at path, for root only. A socket that a dead
// agent left is replaced; one that answers is not.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("rpc: make the socket's directory: %w", err)
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, unix.EADDRINUSE) {
		if l, err = replace(path); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("rpc: listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("rpc: protect the socket: %w", err), l.Close())
	}
	return l, nil
}

// replace removes a socket that no process serves, and listens in its place.
func replace(path string) (net.Listener, error) {
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("rpc: %s is in the way and no socket; move it", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("rpc: %s is served by another agent; stop that one first", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("rpc: %s is in the way: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("rpc: remove the socket of a dead agent: %w", err)
	}
	return net.Listen("unix", path)
}
