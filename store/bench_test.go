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
	// Each time one caller alone and then sixteen, so that both meet the same disk.
	b.Run("callers=16", func(b *testing.B) {
		bucket := open(b, b.TempDir()).Bucket("ipam")
		commits := func(callers int) (perSecond float64) {
			const each = 100
			begin := time.Now()
			var all sync.WaitGroup
			for c := range callers {
				all.Go(func() {
					for i := range each {
						if err := bucket.Commit(map[string][]byte{fmt.Sprintf("addr/10.40.%d.%d", c, i): value}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			return float64(callers*each) / time.Since(begin).Seconds()
		}
		var ratios []float64
		for b.Loop() {
			one := commits(1)
			ratios = append(ratios, commits(16)/one)
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "times-one")
	})
}
