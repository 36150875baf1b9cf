package lab

import (
	"context"
	"time"

	"github.com/weftnet/weft/turn"
)

// Until repeats a check of something that reports no events until it succeeds, or
// answers its last error when patience or ctx ends.
func Until(ctx context.Context, patience time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := check()
		if err == nil || !turn.Sleep(ctx, 4*pollEvery) {
			return err
		}
	}
}
