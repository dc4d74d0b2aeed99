// The codec of recordings: what is written is read again, whatever the program did; damage is told.
#include <random>
#include <vector>

#include "check.h"
#include "recordings/decoder.h"
#include "recordings/encoder.h"

using namespace ptshare::recordings;

namespace {

Word head(unsigned kind, std::size_t count, Word small = 0) {
    return PTSHARE_ITEM | Word{kind} << PTSHARE_KIND_SHIFT | Word{count} << PTSHARE_COUNT_SHIFT |
           small;
}

Word block(std::uint32_t number, unsigned left) {
    return PTSHARE_ITEM | Word{left} << PTSHARE_LEFT_SHIFT | number;
}

Word instruction(unsigned bytes) {
    return bytes;
}

Word access(unsigned instruction, unsigned kind, unsigned bytes, unsigned base) {
    return instruction | Word{kind} << 16 | Word{bytes} << 24 | Word{base} << 40;
}

Word left(unsigned instructions, unsigned accesses, unsigned base) {
    return instructions | Word{accesses} << 16 | Word{base} << 32;
}

// Three instructions, a side exit behind the second: a push; a load from a register; a guarded
// store, and a second field of what the register points to.
std::vector<Word> definition() {
    std::vector<Word> words = {0x401000, 3 | Word{4} << 16 | Word{3} << 32 | Word{1} << 48, 0};
    words.insert(words.end(), {instruction(1), instruction(4), instruction(5)});
    words.insert(words.end(), {access(0, PTSHARE_STORE, 8, 0), 0});
    words.insert(words.end(), {access(1, PTSHARE_LOAD, 4, 1), 0});
    words.insert(words.end(), {access(2, PTSHARE_STORE | PTSHARE_GUARDED, 8, 2), 0});
    words.insert(words.end(), {access(2, PTSHARE_MODIFY, 2, 1), 16});
    words.insert(words.end(), {1 | zigzag(Word{0} - 8) << 1, 0, 0});
    words.insert(words.end(), {left(3, 4, PTSHARE_BASE_ENTRY), Word{0} - 8});
    words.insert(words.end(), {left(2, 2, PTSHARE_BASE_UNKNOWN), 0});
    return words;
}

void add(std::vector<Word>& stream, const std::vector<Word>& words, unsigned kind) {
    stream.push_back(head(kind, words.size()));
    stream.insert(stream.end(), words.begin(), words.end());
}

void feed(Encoder& encoder, const std::vector<Word>& words, std::size_t step) {
    const auto* bytes = reinterpret_cast<const char*>(words.data());
    const std::size_t count = words.size() * sizeof(Word);
    for (std::size_t at = 0; at < count; at += step) {
        encoder.feed(bytes + at, std::min(step, count - at));
    }
}

void load(Decoder& decoder, const Piece& piece) {
    decoder.load(piece.events.data(), piece.events.size(), piece.blocks.data(),
                 piece.blocks.size());
}

}  // namespace

TEST(accesses_lie_at_recorded_addresses_and_at_distances_from_them) {
    std::vector<Word> stream;
    add(stream, definition(), PTSHARE_DEFINE);
    stream.insert(stream.end(), {block(0, 0), 0x7ff8, 0x5000, 0x6000 | PTSHARE_ABSENT});
    Encoder encoder;
    feed(encoder, stream, 1000);
    const Piece piece = encoder.take();
    Decoder decoder;
    load(decoder, piece);
    Item item;
    CHECK(decoder.next(item));
    CHECK_EQ(item.kind, unsigned{PTSHARE_DEFINE});
    CHECK(decoder.next(item));
    CHECK_EQ(item.definition->address, 0x401000U);
    CHECK_EQ(item.definition->instructions[2].address, 0x401005U);
    CHECK_EQ(item.done->instructions, 3);
    CHECK_EQ(item.done->accesses, 4);
    const auto& accesses = item.definition->accesses;
    CHECK_EQ(accesses[0].address(item.words), 0x7ff8U);
    CHECK_EQ(accesses[1].address(item.words), 0x5000U);
    CHECK(!accesses[2].happens(item.words));
    CHECK_EQ(accesses[2].address(item.words), 0x6000U);
    CHECK_EQ(accesses[3].address(item.words), 0x5010U);
    CHECK(!decoder.next(item));
    const Totals& totals = encoder.totals();
    CHECK_EQ(totals.instructions, 3U);
    CHECK_EQ(totals.loads, 1U);
    CHECK_EQ(totals.stores, 1U);  // the guarded one did not happen
    CHECK_EQ(totals.modifies, 1U);
}

TEST(a_block_that_is_left_early_did_less) {
    std::vector<Word> stream;
    add(stream, definition(), PTSHARE_DEFINE);
    stream.insert(stream.end(), {block(0, 1), 0x7ff8, 0x5000, 0xbad});
    stream.insert(stream.end(), {block(0, PTSHARE_STOPPED | 1), 0x7ff8, 0xbad, 0xbad});
    Encoder encoder;
    feed(encoder, stream, 1000);
    Decoder decoder;
    const Piece piece = encoder.take();
    load(decoder, piece);
    Item item;
    decoder.next(item);
    CHECK(decoder.next(item));
    CHECK_EQ(item.done->accesses, 2);
    CHECK_EQ(item.done->instructions, 2);
    CHECK_EQ(item.count, 2U);
    CHECK(decoder.next(item));
    CHECK_EQ(item.exit, PTSHARE_STOPPED | 1);
    CHECK_EQ(item.done->accesses, 1);
    CHECK_EQ(item.done->instructions, 1);
    CHECK_EQ(encoder.totals().instructions, 3U);
}

TEST(a_stack_that_goes_on_where_it_was_costs_a_byte_a_block) {
    std::vector<Word> stream;
    add(stream, definition(), PTSHARE_DEFINE);
    Word stack = 0x7fff0000;
    for (int i = 0; i < 1000; ++i) {
        stack -= 8;
        stream.insert(stream.end(), {block(0, 0), stack, 0x5000 + Word(i) * 64, 0x6000});
    }
    Encoder encoder;
    feed(encoder, stream, 4096);
    CHECK(encoder.take().blocks.size() < 1050);
}

TEST(what_is_written_is_read_again_however_it_is_cut) {
    std::mt19937_64 random(7);
    std::vector<Word> stream;
    std::vector<std::vector<Word>> blocks;
    std::size_t events = 0;
    for (int i = 0; i < 4; ++i) {
        add(stream, definition(), PTSHARE_DEFINE);
        ++events;
    }
    for (int i = 0; i < 5000; ++i) {
        if (random() % 50 == 0) {
            add(stream, {random(), random(), 1, 2, 3, 4, random()}, PTSHARE_CALL);
            ++events;
            continue;
        }
        const auto number = static_cast<std::uint32_t>(random() % 4);
        const unsigned how = random() % 8 == 0 ? 1 : 0;
        const Word far = random() % 3 == 0 ? random() >> 16 : 0x5000;
        const Word guard = random() % 2 == 0 ? PTSHARE_ABSENT : 0;
        blocks.push_back({number, how, 0x7000 + random() % 4, far, 0x6000 | guard});
        stream.insert(stream.end(), {block(number, how), blocks.back()[2], far, blocks.back()[4]});
    }
    Encoder whole, bytewise;
    feed(whole, stream, stream.size() * sizeof(Word));
    feed(bytewise, stream, 13);
    const Piece piece = whole.take();
    CHECK(bytewise.take().blocks == piece.blocks);
    Decoder decoder;
    load(decoder, piece);
    Item item;
    std::size_t at = 0, seen = 0;
    while (decoder.next(item)) {
        if (item.definition == nullptr) {
            ++seen;
            continue;
        }
        const std::vector<Word>& expected = blocks.at(at++);
        CHECK_EQ(item.block, expected[0]);
        CHECK_EQ(item.exit, expected[1]);
        for (std::size_t i = 0; i < item.count; ++i) CHECK_EQ(item.words[i], expected[2 + i]);
    }
    CHECK_EQ(at, blocks.size());
    CHECK_EQ(seen, events);
}

TEST(a_forked_child_has_the_definitions_of_before_the_fork) {
    std::vector<Word> stream;
    add(stream, definition(), PTSHARE_DEFINE);
    Encoder parent;
    feed(parent, stream, 1000);
    Encoder child(parent, 1);
    feed(child, {block(0, 0), 1, 2, 3}, 1000);
    CHECK_EQ(child.totals().blocks, 1U);
    CHECK_THROWS(Encoder(parent, 2), std::runtime_error, "lacks definitions");
    Encoder none(parent, 0);
    CHECK_THROWS(feed(none, {block(0, 0), 1, 2, 3}, 1000), std::runtime_error,
                 "without a definition");
}

TEST(damage_is_told) {
    Encoder encoder;
    CHECK_THROWS(feed(encoder, {5}, 8), std::runtime_error, "no head");
    Encoder second;
    std::vector<Word> stream;
    std::vector<Word> wrong = definition();
    wrong.pop_back();
    add(stream, wrong, PTSHARE_DEFINE);
    CHECK_THROWS(feed(second, stream, 1000), std::runtime_error, "not whole");
    Encoder third;
    stream.clear();
    add(stream, definition(), PTSHARE_DEFINE);
    stream.insert(stream.end(), {block(0, 2), 1, 2, 3});
    CHECK_THROWS(feed(third, stream, 1000), std::runtime_error, "no such exit");
}

TEST(damaged_pieces_end_in_an_error_or_in_items) {
    std::vector<Word> stream;
    add(stream, definition(), PTSHARE_DEFINE);
    for (Word i = 0; i < 200; ++i) {
        stream.insert(stream.end(), {block(0, i % 5 == 0), 0x7000 - i, i * i, 0x6000});
        if (i % 20 == 0) add(stream, {i, i * 1000}, PTSHARE_RETURN);
    }
    Encoder encoder;
    feed(encoder, stream, 4096);
    const Piece piece = encoder.take();
    std::mt19937 random(3);
    int refused = 0;
    for (int i = 0; i < 2000; ++i) {
        Piece damaged = piece;
        std::string& text = random() % 2 == 0 ? damaged.events : damaged.blocks;
        text[random() % text.size()] = static_cast<char>(random());
        if (random() % 4 == 0) text.resize(random() % text.size());
        try {
            Decoder decoder;
            load(decoder, damaged);
            Item item;
            while (decoder.next(item)) {
            }
        } catch (const std::runtime_error&) {
            ++refused;
        }
    }
    CHECK(refused > 1000);
}
