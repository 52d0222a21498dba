// Go's own readers of logs (golang.org/x/mod/sumdb) look at what ours made: a JSON object on standard input, and
// a line for each thing that does not hold on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type made struct {
	Entries   [][]byte
	Roots     [][]byte
	Inclusion [][][][]byte
	Proofs    [][][][]byte
	Key       string
	Notes     [][]byte
	Tiles     map[string][]byte
}

func hash(raw []byte) (h tlog.Hash) { copy(h[:], raw); return }

func hashes(raw [][]byte) (found []tlog.Hash) {
	for _, one := range raw {
		found = append(found, hash(one))
	}
	return
}

type tiles map[string][]byte

func (t tiles) Height() int                     { return 8 }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) (found [][]byte, err error) {
	for _, one := range wanted {
		data, there := t[one.Path()]
		if !there {
			return nil, fmt.Errorf("no tile %s", one.Path())
		}
		found = append(found, data)
	}
	return found, nil
}

func main() {
	var in made
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		panic(err)
	}
	looked := 0
	wrong := func(err error, what string, a, b int) {
		looked++
		if err != nil {
			fmt.Println(what, a, b, err)
		}
	}
	for size := 1; size < len(in.Roots); size++ {
		for at := 0; at < size; at++ {
			proof := hashes(in.Inclusion[size][at])
			leaf := tlog.RecordHash(in.Entries[at])
			wrong(tlog.CheckRecord(proof, int64(size), hash(in.Roots[size]), int64(at), leaf), "inclusion", at, size)
		}
		for old := 1; old <= size; old++ {
			proof := hashes(in.Proofs[size][old-1])
			wrong(tlog.CheckTree(proof, int64(size), hash(in.Roots[size]), int64(old), hash(in.Roots[old])), "consistency", old, size)
		}
	}
	size := len(in.Roots) - 1
	verifier, err := note.NewVerifier(in.Key)
	wrong(err, "key", 0, 0)
	for at, text := range in.Notes {
		_, err := note.Open(text, note.VerifierList(verifier))
		wrong(err, "note", at, 0)
	}
	reader := tlog.TileHashReader(tlog.Tree{N: int64(size), Hash: hash(in.Roots[size])}, tiles(in.Tiles))
	for at := range in.Entries {
		found, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(at))})
		wrong(err, "tile", at, 0)
		if err == nil && found[0] != tlog.RecordHash(in.Entries[at]) {
			wrong(fmt.Errorf("another hash"), "tile", at, 0)
		}
	}
	fmt.Println("looked at", looked)
}
