// Package api is the agent's own socket: its requests and answers as Go types, the server
// and the client. The report is also text for people. A refusal reaches the client with its
// kind, so that programs can decide on it.
package api
