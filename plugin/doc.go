// Package plugin is the composition: it opens every room, ties them together and
// closes them again. It holds no rule of its own but those that need several
// rooms: becoming a member, reading one's own decisions, ceding an address,
// keeping the kernel and the local Docker equal to what was decided.
package plugin
