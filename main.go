// Weft is one network for the containers of many hosts: a Docker network and
// IPAM plugin. See README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/weftnet/weft/cli"
)

// version is set by the linker; see scripts/version.sh.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := cli.Run(ctx, version)
	stop()
	if err != nil {
		os.Exit(1)
	}
}
