//go:build nextlevel

package api

import "context"

func init() {
	orders["POST /ranges/drop"] = order(func(a Agent, ctx context.Context, r Range) (string, error) {
		return a.(interface {
			DropRange(ctx context.Context, r Range) (string, error)
		}).DropRange(ctx, r)
	})
}
