package main

// V2: the tree, made again from the entries' bytes, and every published file compared with it.

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	height   = 8
	width    = 1 << height
	maxEntry = 32 * 1024
)

// A ledger is what the bundles hold, and every hash of the tree above, in the order of tlog.StoredHashIndex.
type ledger struct {
	size    int64
	entries [][]byte
	hashes  []tlog.Hash
	cut     error // the first bundle that cannot be read; nothing beyond it can be placed
}

func (l *ledger) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for n, index := range indexes {
		if index >= int64(len(l.hashes)) {
			return nil, fmt.Errorf("there is no hash %d", index)
		}
		found[n] = l.hashes[index]
	}
	return found, nil
}

// readEntries reads as many entries as the newest checkpoint covers.
func readEntries(dir string, heads []*head) (*ledger, error) {
	if heads[0].bad != nil {
		return nil, heads[0].bad
	}
	log := &ledger{size: heads[0].tree.N}
	for first := int64(0); first < log.size && log.cut == nil; first += width {
		count := log.size - first
		if count > width {
			count = width
		}
		tile := tlog.Tile{H: height, L: -1, N: first >> height, W: int(count)}
		path, raw, err := readTile(dir, tile)
		if err == nil {
			err = log.take(raw, path, int(count))
		}
		if err != nil {
			log.cut = wrong("leaf %d and on: %v", first, err)
		}
	}
	for n, entry := range log.entries {
		more, err := tlog.StoredHashesForRecordHash(int64(n), tlog.RecordHash(entry), log)
		if err != nil {
			return nil, err
		}
		log.hashes = append(log.hashes, more...)
	}
	return log, nil
}

// take reads exactly count entries of a bundle. Of a full bundle that took the place of a partial one, the first.
func (l *ledger) take(raw []byte, path string, count int) error {
	read := [][]byte{}
	for n := 0; n < count; n++ {
		if len(raw) < 2 {
			return wrong("%s ends before entry %d", path, n)
		}
		length := int(raw[0])<<8 | int(raw[1])
		if length > maxEntry {
			return wrong("entry %d of %s has %d bytes", n, path, length)
		}
		if len(raw) < 2+length {
			return wrong("entry %d of %s is cut off", n, path)
		}
		read = append(read, raw[2:2+length])
		raw = raw[2+length:]
	}
	if len(raw) > 0 && (count == width || strings.Contains(path, ".p/")) {
		return wrong("%s has %d bytes too many", path, len(raw))
	}
	l.entries = append(l.entries, read...)
	return nil
}

// tilePath is the C2SP name: no height, and "entries" where Go says "data".
func tilePath(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

// readTile reads a tile or bundle; a partial one that is gone, from the full one.
func readTile(dir string, tile tlog.Tile) (string, []byte, error) {
	path := tilePath(tile)
	raw, err := os.ReadFile(filepath.Join(dir, path))
	if os.IsNotExist(err) && tile.W < width {
		full := tile
		full.W = width
		more, fullErr := os.ReadFile(filepath.Join(dir, tilePath(full)))
		if fullErr == nil {
			path, raw, err = tilePath(full), more, nil
			if tile.L >= 0 && len(raw) > tile.W*tlog.HashSize {
				raw = raw[:tile.W*tlog.HashSize]
			}
		}
	}
	if err != nil {
		return path, nil, wrong("%s is missing", path)
	}
	return path, raw, nil
}

func (l *ledger) verifyTree(dir string, heads []*head) error {
	for _, each := range heads {
		if each.bad != nil {
			return each.bad
		}
		if each.tree.N > l.size {
			return wrong("%s: it covers more than the newest checkpoint, %d entries", each.where, each.tree.N)
		}
	}
	if err := l.verifyTiles(dir); err != nil {
		return err
	}
	for _, each := range append(append([]*head{}, heads[1:]...), heads[0]) {
		root, err := tlog.TreeHash(each.tree.N, l)
		if err != nil {
			return err
		}
		if each.tree.N > 0 && root != each.tree.Hash || each.tree.N == 0 && each.tree.Hash != emptyRoot {
			return wrong("%s: the first %d entries make another root", each.where, each.tree.N)
		}
	}
	return l.verifySurplus(dir)
}

// tilesOf names the tiles of a tree. (tlog.NewTiles names every narrower partial tile as well.)
func tilesOf(size int64) []tlog.Tile {
	tiles := []tlog.Tile{}
	for _, tile := range tlog.NewTiles(height, 0, size) {
		if last := len(tiles) - 1; last >= 0 && tiles[last].L == tile.L && tiles[last].N == tile.N {
			tiles = tiles[:last]
		}
		tiles = append(tiles, tile)
	}
	return tiles
}

// verifyTiles makes every tile anew, range by range as the log grew, and compares.
func (l *ledger) verifyTiles(dir string) error {
	have := int64(len(l.entries))
	for _, tile := range tilesOf(l.size) {
		// what the entries that could be read do not reach is theirs to answer for
		if (tile.N*width+int64(tile.W))<<(height*uint(tile.L)) > have {
			continue
		}
		wanted, err := tlog.ReadTileData(tile, l)
		if err != nil {
			return err
		}
		path, there, err := readTile(dir, tile)
		if err != nil {
			return err
		}
		if !bytes.Equal(wanted, there) {
			at := 0
			for at < len(there) && at < len(wanted) && there[at] == wanted[at] {
				at++
			}
			return wrong("%s is not what the entries make, from hash %d on", path, at/tlog.HashSize)
		}
	}
	return l.cut
}

// verifySurplus looks for files that no tree of this log has.
func (l *ledger) verifySurplus(dir string) error {
	widest := map[string]tlog.Tile{}
	for _, tile := range tilesOf(l.size) {
		note := tile
		note.W = width
		widest[tilePath(note)] = tile
		if tile.L == 0 {
			note.L, tile.L = -1, -1
			widest[tilePath(note)] = tile
		}
	}
	return filepath.WalkDir(filepath.Join(dir, "tile"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil && os.IsNotExist(err) && l.size == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			return nil
		}
		full, part, partial := strings.Cut(name, ".p/")
		count := width
		if partial {
			if n, err := fmt.Sscanf(part, "%d", &count); n != 1 || err != nil || fmt.Sprint(count) != part || count >= width {
				return wrong("%s: there is no such tile", name)
			}
		}
		tile, ok := widest[full]
		if !ok || count < 1 || count > tile.W {
			return wrong("%s: a tree of %d entries has no such tile", name, l.size)
		}
		if count == tile.W {
			return nil
		}
		there, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(there, l.beginning(tile, count)) {
			return wrong("%s: it is not the beginning of what took its place", name)
		}
		return nil
	})
}

func (l *ledger) beginning(tile tlog.Tile, count int) []byte {
	made := []byte{}
	if tile.L >= 0 {
		tile.W = count
		made, _ = tlog.ReadTileData(tile, l)
		return made
	}
	for _, entry := range l.entries[tile.N*width : tile.N*width+int64(count)] {
		made = append(made, byte(len(entry)>>8), byte(len(entry)))
		made = append(made, entry...)
	}
	return made
}
