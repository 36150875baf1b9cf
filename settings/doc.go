// Package settings is the one table of everything an operator can set: a struct,
// and a row per setting from which parsing, --help, the managed plugin's
// config.json and docs/settings.md follow. A setting has the same name and
// meaning as an environment variable of the managed plugin, in the
// environment of an agent outside of Docker, and as a flag of "weft agent".
//
// An unknown WEFT_ variable, a value that cannot be read and a setting that this version
// does not act on yet are errors, which say what is wrong and what is expected.
package settings

//go:generate go test -run TestDocsAreCurrent -update .
