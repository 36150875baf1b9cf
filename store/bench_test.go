package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// syncer writes one page and syncs it, nothing else: the limit.
func syncer(b *testing.B) (once func() time.Duration) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	page := make([]byte, 4096)
	return func() time.Duration {
		begin := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
}

// percentile sorts what it is given.
func percentile(took []time.Duration, p int) float64 {
	slices.Sort(took)
	return float64(took[len(took)*p/100].Nanoseconds()) / 1e3
}

// BenchmarkCommit is one caller in turns with a bare sync, and then many at once. The
// keys are those of some thousand addresses that come and go.
func BenchmarkCommit(b *testing.B) {
	value := []byte(`{"held":true,"seq":123456,"name":"web.1.abcdef","caller":"0123456789abcdef"}`)
	b.Run("callers=1", func(b *testing.B) {
		bucket, sync := open(b, b.TempDir()).Bucket("ipam"), syncer(b)
		var commits, syncs []time.Duration
		for i := 0; b.Loop(); i++ {
			syncs = append(syncs, sync())
			begin := time.Now()
			if err := bucket.Commit(map[string][]byte{fmt.Sprintf("addr/10.40.%d.%d", i>>8&7, i&255): value}); err != nil {
				b.Fatal(err)
			}
			commits = append(commits, time.Since(begin))
		}
		for _, p := range []int{50, 99} {
			b.ReportMetric(percentile(commits, p), fmt.Sprintf("p%d-µs", p))
			b.ReportMetric(percentile(commits, p)/percentile(syncs, p), fmt.Sprintf("p%d-syncs", p))
		}
	})
	b.Run("callers=16", func(b *testing.B) {
		bucket, bare := open(b, b.TempDir()).Bucket("ipam"), syncer(b)
		var alone time.Duration
		const lone = 500
		for range lone {
			bare()
			begin := time.Now()
			if err := bucket.Commit(map[string][]byte{"addr/10.40.0.1": value}); err != nil {
				b.Fatal(err)
			}
			alone += time.Since(begin)
		}
		b.ResetTimer()
		var all sync.WaitGroup
		for c := range 16 {
			all.Go(func() {
				for i := range (b.N + 15) / 16 {
					if err := bucket.Commit(map[string][]byte{fmt.Sprintf("addr/10.40.%d.%d", c, i&255): value}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()*alone.Seconds()/lone, "times-one")
	})
}
