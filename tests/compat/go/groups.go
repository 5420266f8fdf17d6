package main

import (
	"fmt"
	"slices"
	"time"
)

const groupPartitions = 4

// groupScenario is a subscribed group of two: joining, leaving, committing, its lag, its end.
type groupScenario struct {
	*scenario
	topic   string
	group   string
	members []member
	seen    map[place]bool
}

func (g *groupScenario) run() {
	g.seen = map[place]bool{}
	step("group-join", plain(g.join))
	step("group-leave", plain(g.leave))
	step("group-commit", plain(g.commit))
	step("group-list", plain(func() error { return g.groupListed(true) }))
	step("group-describe", plain(func() error {
		count, err := g.client.groupMembers(g.group)
		if err != nil {
			return err
		}
		return same("the number of members", 1, count)
	}))
	step("group-lag", plain(g.lag))
	for _, one := range g.members {
		one.close()
	}
	step("group-reset-offsets", plain(func() error {
		if err := g.client.resetOffset(g.group, g.topic, 1, 3); err != nil {
			return err
		}
		offset, err := g.client.committed(g.group, g.topic, 1)
		if err != nil {
			return err
		}
		return same("the offset", 3, offset)
	}))
	step("group-delete", plain(func() error {
		if err := g.client.deleteGroup(g.group); err != nil {
			return err
		}
		return g.groupListed(false)
	}))
}

func (g *groupScenario) produce(perPartition int) error {
	var all []record
	for partition := range int32(groupPartitions) {
		all = append(all, numbered(g.topic, partition, perPartition)...)
	}
	_, err := g.client.produce(all, settings{})
	return err
}

func (g *groupScenario) add() error {
	one, err := g.client.member(g.group, g.topic)
	if err == nil {
		g.members = append(g.members, one)
	}
	return err
}

func (g *groupScenario) sizes() []int {
	var sizes []int
	for _, one := range g.members {
		sizes = append(sizes, len(one.assignment()))
	}
	return sizes
}

func (g *groupScenario) readAll() error {
	for _, one := range g.members {
		found, err := one.read(100 * time.Millisecond)
		if err != nil {
			return err
		}
		for _, got := range found {
			g.seen[place{got.partition, got.offset}] = true
		}
	}
	return nil
}

func (g *groupScenario) awaitSizes(expected ...int) error {
	return until(func() (bool, error) {
		err := g.readAll()
		return slices.Equal(g.sizes(), expected), err
	}, func() string { return fmt.Sprintf("partitions per member: %v, expected %v", g.sizes(), expected) })
}

func (g *groupScenario) join() error {
	if err := g.create(g.topic, groupPartitions); err != nil {
		return err
	}
	if err := g.produce(10); err != nil {
		return err
	}
	if err := g.add(); err != nil {
		return err
	}
	if err := g.awaitSizes(groupPartitions); err != nil {
		return err
	}
	// Whoever gets a partition goes on from what its owner before committed.
	if err := g.members[0].commit(); err != nil {
		return err
	}
	if err := g.add(); err != nil {
		return err
	}
	if err := g.awaitSizes(2, 2); err != nil {
		return err
	}
	union := append(slices.Clone(g.members[0].assignment()), g.members[1].assignment()...)
	slices.Sort(union)
	if !slices.Equal(union, []int32{0, 1, 2, 3}) {
		return fmt.Errorf("the partitions assigned are %v", union)
	}
	return nil
}

func (g *groupScenario) leave() error {
	if len(g.members) != 2 {
		return fmt.Errorf("no second member")
	}
	if err := g.members[1].commit(); err != nil {
		return err
	}
	g.members[1].close()
	g.members = g.members[:1]
	return g.awaitSizes(groupPartitions)
}

func (g *groupScenario) commit() error {
	if len(g.members) == 0 {
		return fmt.Errorf("no member")
	}
	err := until(func() (bool, error) {
		err := g.readAll()
		return len(g.seen) == 10*groupPartitions, err
	}, func() string { return fmt.Sprintf("%d records read", len(g.seen)) })
	if err != nil {
		return err
	}
	if err := g.members[0].commit(); err != nil {
		return err
	}
	g.members[0].close()
	g.members = nil
	if err := g.produce(1); err != nil {
		return err
	}
	if err := g.add(); err != nil {
		return err
	}
	rest, err := readSome(g.members[0], groupPartitions)
	if err != nil {
		return err
	}
	for _, got := range rest {
		if err := same("the offset after the commit", 10, got.offset); err != nil {
			return err
		}
	}
	return nil
}

func (g *groupScenario) lag() error {
	lag := int64(0)
	for partition := range int32(groupPartitions) {
		_, end, err := g.client.bounds(g.topic, partition)
		if err != nil {
			return err
		}
		committed, err := g.client.committed(g.group, g.topic, partition)
		if err != nil {
			return err
		}
		lag += end - committed
	}
	return same("the lag", groupPartitions, lag)
}

func (g *groupScenario) groupListed(wanted bool) error {
	return until(func() (bool, error) {
		names, err := g.client.groups()
		return names[g.group] == wanted, err
	}, func() string { return fmt.Sprintf("listed: %t", !wanted) })
}
