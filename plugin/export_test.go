package plugin

import "context"

// Unused is the part of Run that asks Docker.
func (c Cleanup) Unused(ctx context.Context) error { return c.unused(ctx) }
