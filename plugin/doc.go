// Package plugin is the composition: it opens every package, connects them and closes them
// again. Its own rules are those that need several packages: what this host announces, keeping
// the kernel equal to what was decided, and the report.
package plugin
