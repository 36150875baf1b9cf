//go:build !race

package exact_test

const underRace = false
