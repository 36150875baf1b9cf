// Weft is one network for the containers of many hosts: a Docker network and
// IPAM plugin. See README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/weftnet/weft/cli"
	"github.com/weftnet/weft/cni"
)

// version is set by the linker; see scripts/version.sh.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	if cni.Called() {
		code := cni.Run(ctx, version)
		stop()
		os.Exit(code)
	}
	err := cli.Run(ctx, version)
	stop()
	if err != nil {
		os.Exit(1)
	}
}
