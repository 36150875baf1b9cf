package exact_test

func (w *world) cutBoth(a, b *machine) {
	if a != b {
		w.cut[[2]int{a.n, b.n}], w.cut[[2]int{b.n, a.n}] = true, true
	}
}

func (w *world) isolate(m *machine) bool {
	for _, o := range w.machines {
		w.cutBoth(m, o)
	}
	w.soon(w.mend)
	return true
}

func (w *world) oneWay(m *machine, out bool) bool {
	for _, o := range w.machines {
		if o != m && out {
			w.cut[[2]int{m.n, o.n}] = true
		} else if o != m {
			w.cut[[2]int{o.n, m.n}] = true
		}
	}
	w.soon(w.mend)
	return true
}

func (w *world) split(*machine) bool {
	side := map[*machine]bool{}
	for _, m := range w.machines {
		side[m] = w.chance(50)
	}
	for _, a := range w.machines {
		for _, b := range w.machines {
			if side[a] != side[b] {
				w.cutBoth(a, b)
			}
		}
	}
	w.soon(w.mend)
	return true
}

func (w *world) cutLink(m *machine) bool {
	o := w.machines[w.dice.IntN(len(w.machines))]
	if o != m {
		w.cut[[2]int{m.n, o.n}] = true
	}
	w.soon(w.mend)
	return o != m
}

// mend ends all cuts, unless they are to last.
func (w *world) mend() {
	if !w.lasting || w.healed {
		clear(w.cut)
	}
}

func (w *world) lose(*machine) bool {
	before := w.style.loss
	w.style.loss = 35
	w.soon(func() { w.style.loss = min(before, w.style.loss) })
	return true
}
