// Package rpc is one typed Docker plugin call: a POST of a JSON object to
// /Service.Method over a unix socket, answered by a JSON object.
//
// It keeps what the two protocols share away from the rooms that speak them:
// bodies are bounded and must be objects, so that a retry of dockerd, whose body
// is empty, is never taken for "all defaults"; every call has a deadline and an
// answer; a panic is an error of one call; errors have the form that dockerd reads
// ("Err" for network drivers and for any status but 200, "Error" for IPAM).
//
// The rooms have structs of their own for all messages: docker/go-plugins-helpers
// knows neither GwAllocChecker and GwAllocCheck (28.0) nor RequiresRequestReplay,
// has no deadlines and recovers no panics.
package rpc
