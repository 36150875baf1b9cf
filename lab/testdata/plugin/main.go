// Command plugin is the least that Docker takes for a network plugin: it lets the lab's
// tests install and kill one.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.Listen("unix", "/run/docker/plugins/least.sock")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "greeting is", os.Getenv("GREETING"))
	if os.Getenv("GREETING") == "rude" {
		fmt.Fprintln(os.Stderr, "GREETING: rude is not a greeting")
		os.Exit(1)
	}
	answer := func(path, body string) {
		http.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
	}
	answer("/Plugin.Activate", `{"Implements":["NetworkDriver"]}`)
	answer("/NetworkDriver.GetCapabilities", `{"Scope":"local","ConnectivityScope":"global"}`)
	fmt.Fprintln(os.Stderr, http.Serve(l, nil))
}
