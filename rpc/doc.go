// Package rpc serves Docker's plugin calls: a POST of a JSON object to /Service.Method
// over a unix socket, answered by a JSON object.
//
// The HTTP server is that of docker/go-plugins-helpers, behind connections that have the
// limits which it does not set. The package keeps what the two protocols share away from
// those that speak them: bodies are bounded and must be objects, so that a retry of
// dockerd, whose body is empty, is never taken for "all defaults"; every call has a
// deadline and an answer; a panic is an error of one call; errors have the form that
// dockerd reads ("Err" for network drivers and for any status but 200, "Error" for IPAM).
//
// driver and ipam take the messages from the same library. What that offers beside them is
// not used: its handlers have no context and no caller, and answer an empty body in plain
// text.
package rpc
