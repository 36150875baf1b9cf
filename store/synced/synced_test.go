package synced_test

import (
	"errors"
	"testing"

	"github.com/weftnet/weft/store/synced"
)

type disk func() error

func (d disk) Commit(map[string][]byte, ...string) error { return d() }

func TestOnlyASyncedDiskMakesAValue(t *testing.T) {
	broken := errors.New("the disk is full")
	v, err := synced.Commit(disk(func() error { return broken }), "10.40.0.7", nil)
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	for what, none := range map[string]synced.Value[string]{"of a failed write": v, "of no write": {}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("the value %s was given away", what)
				}
			}()
			none.Get()
		}()
	}
	if v, err = synced.Commit(disk(func() error { return nil }), "10.40.0.7", nil); err != nil || v.Get() != "10.40.0.7" {
		t.Errorf("%v, %v", v, err)
	}
}
