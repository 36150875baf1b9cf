// Package plugin is the composition: it opens every package, ties them together and closes
// them again. It holds no rule of its own but those that need several of them: what this
// host announces, keeping the kernel equal to what was decided, and the report.
package plugin
