// Package pool is what one host holds of one subnet: its blocks and claims, the uses of
// their addresses, which address is handed out next, and which are free.
//
// It is pure: the caller has written every change to disk before it makes it here, and
// passes the time where it matters.
package pool
