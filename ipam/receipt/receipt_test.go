package receipt_test

import (
	"errors"
	"testing"

	"github.com/weftnet/weft/ipam/receipt"
)

type disk func() error

func (d disk) Commit(map[string][]byte, ...string) error { return d() }

func TestOnlyASyncedDiskGivesAReceipt(t *testing.T) {
	broken := errors.New("the disk is full")
	r, err := receipt.Commit(disk(func() error { return broken }), "10.40.0.7", nil)
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	for what, none := range map[string]receipt.Receipt[string]{"of a failed write": r, "of none": {}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("the receipt %s gave something away", what)
				}
			}()
			none.Of()
		}()
	}
	if r, err = receipt.Commit(disk(func() error { return nil }), "10.40.0.7", nil); err != nil || r.Of() != "10.40.0.7" {
		t.Errorf("%v, %v", r, err)
	}
}
