// Package dockerapi speaks to the local Docker Engine beside the plugin protocol:
// it watches events and lists, creates and removes networks. It is the only package
// that knows Docker's client library.
//
// Nothing here may be called while a plugin request is being answered: Docker
// holds locks during those, and at boot serves its API only after the containers
// that needed the plugin have started (moby/moby#30348).
//
// Every engine from 20.10 (API 1.41) on is understood; the version is negotiated
// anew whenever the connection is lost, because dockerd may come back as another
// version while the agent goes on.
package dockerapi
