/**
 * Matrix products and convolutions. Both are sums over the same form: a row of the result belongs to one or more rows of the
 * input (a convolution's: one for each position of the filter), each found by a pointer. The other factor is first packed into
 * panels of eight columns, so that six rows by eight columns of the result stay in registers.
 * Source of the form: XNNPACK's indirect convolution, arXiv 1907.02129.
 */
import { choose, f32, i32, repeat, v128, when, type Code, type KernelCode } from './assembler.ts';

/** Rows and columns of the result that are computed at once. */
export const TILE_ROWS = 6;
export const TILE_COLUMNS = 8;

/** Arguments of `pack`, in the order of memory; strides and panels in bytes. */
export const packArguments = [
  'from', 'to', 'bias', 'taps', 'tapStride', 'rows', 'rowStride', 'columns', 'columnStride', 'panels', 'matrixStride', 'packedStride',
] as const;

/** Arguments of `product`. `x` has h w pixels a picture, `rowBytes` apart; a plain matrix is one picture of 1 x rows pixels. */
export const productArguments = [
  'x', 'packed', 'y', 'zeros', 'rows', 'columns', 'depth', 'h', 'w', 'outH', 'outW', 'kh', 'kw', 'stride', 'top', 'left', 'dilation', 'rowBytes',
  'blockPanels', 'blocks', 'xStride', 'packedStride', 'yStride',
] as const;

/** Bytes of one packed panel: a bias, then one row of it for each product. */
export const panelBytes = (products: number): number => 4 * TILE_COLUMNS * (1 + products);

/** Loads arguments by name from memory, all at once. */
export function loaderOf<Name extends string>(names: readonly Name[], args: Code): (name: Name) => Code {
  return (name) => i32.load(args, 4 * names.indexOf(name));
}

/**
 * One panel of a matrix: columns 8 p to 8 p + 7 side by side, row after row, behind their biases. Columns that are too many repeat
 * the last one.
 */
export const pack: KernelCode = (f, { args, unit }) => {
  const arg = loaderOf(packArguments, args.get);
  const [source, target, panel, column, tap, row, from] = Array.from({ length: 7 }, () => f.i32()) as [ReturnType<typeof f.i32>, ...ReturnType<typeof f.i32>[]];
  const places = Array.from({ length: TILE_COLUMNS }, () => f.i32()); // bytes from the row's start
  const first = (c: number): Code => i32.min(i32.add(column!.get, i32.const(c)), i32.sub(arg('columns'), i32.const(1)));
  return [
    panel!.set(i32.rem(unit.get, arg('panels'))),
    column!.set(i32.mul(panel!.get, i32.const(TILE_COLUMNS))),
    source.set(i32.add(arg('from'), i32.mul(i32.div(unit.get, arg('panels')), arg('matrixStride')))),
    target!.set(i32.add(arg('to'), i32.mul(i32.div(unit.get, arg('panels')), arg('packedStride')))),
    target!.step(i32.mul(panel!.get, i32.mul(i32.const(4 * TILE_COLUMNS), i32.add(i32.const(1), i32.mul(arg('taps'), arg('rows')))))),
    places.map((place, c) => [
      place.set(i32.mul(first(c), arg('columnStride'))),
      when(arg('bias'), f32.store(target!.get, f32.load(i32.add(arg('bias'), i32.shl(first(c), i32.const(2)))), 4 * c), f32.store(target!.get, f32.const(0), 4 * c)),
    ]),
    target!.step(4 * TILE_COLUMNS),
    repeat(tap!, arg('taps'), [
      from!.set(i32.add(source.get, i32.mul(tap!.get, arg('tapStride')))),
      repeat(row!, arg('rows'), [
        places.map((place, c) => f32.store(target!.get, f32.load(i32.add(from!.get, place.get)), 4 * c)),
        target!.step(4 * TILE_COLUMNS),
        from!.step(arg('rowStride')),
      ]),
    ]),
  ];
};

/** A block of rows of the result, all columns. Scratch holds the pointers: for each six rows and each tap, six. */
export const product: KernelCode = (f, { args, scratch, unit }) => {
  const arg = loaderOf(productArguments, args.get);
  const names = ['matrix', 'row0', 'rowCount', 'pointer', 'picture', 'iy', 'ix', 'tapY', 'tapX', 'index', 'panels', 'panel', 'tile', 'tiles', 'taps', 'tap', 'b', 'y', 'k', 'left', 'rest', 'found', 'depth'] as const;
  const at = Object.fromEntries(names.map((name) => [name, f.i32()])) as Record<(typeof names)[number], ReturnType<typeof f.i32>>;
  const rows = Array.from({ length: TILE_ROWS }, () => f.i32());
  const sums = rows.map(() => [f.v128(), f.v128()] as const);
  const [one, b0, b1] = [f.v128(), f.v128(), f.v128()];

  const pixel = (iy: Code, ix: Code): Code =>
    i32.add(at.matrix.get, i32.mul(arg('rowBytes'), i32.add(i32.mul(i32.add(i32.mul(at.picture.get, arg('h')), iy), arg('w')), ix)));
  const [y, x] = [i32.add(at.iy.get, at.tapY.get), i32.add(at.ix.get, at.tapX.get)];
  const inside = (height: Code, width: Code): Code => i32.and(i32.below(y, height), i32.below(x, width));
  const spread = (size: Code): Code => i32.mul(size, arg('dilation'));
  const dividedInside = i32.and(inside(spread(arg('h')), spread(arg('w'))), i32.and(i32.eqz(i32.rem(y, arg('dilation'))), i32.eqz(i32.rem(x, arg('dilation')))));
  const place = (row: Code): Code => [
    at.index.set(row),
    at.picture.set(i32.div(at.index.get, i32.mul(arg('outH'), arg('outW')))),
    at.index.set(i32.rem(at.index.get, i32.mul(arg('outH'), arg('outW')))),
    at.iy.set(i32.sub(i32.mul(i32.div(at.index.get, arg('outW')), arg('stride')), arg('top'))),
    at.ix.set(i32.sub(i32.mul(i32.rem(at.index.get, arg('outW')), arg('stride')), arg('left'))),
  ];
  const pointers = repeat(at.tile, at.tiles.get, rows.map((_, r) => [
    place(i32.min(i32.add(at.row0.get, i32.add(i32.mul(at.tile.get, i32.const(TILE_ROWS)), i32.const(r))), i32.sub(arg('rows'), i32.const(1)))),
    at.pointer.set(i32.add(scratch.get, i32.mul(i32.mul(at.tile.get, at.taps.get), i32.const(4 * TILE_ROWS)))),
    repeat(at.tapY, arg('kh'), repeat(at.tapX, arg('kw'), [
      when(i32.eq(arg('dilation'), i32.const(1)),
        at.found.set(choose(inside(arg('h'), arg('w')), pixel(y, x), arg('zeros'))),
        at.found.set(choose(dividedInside, pixel(i32.div(y, arg('dilation')), i32.div(x, arg('dilation'))), arg('zeros')))),
      i32.store(at.pointer.get, at.found.get, 4 * r),
      at.pointer.step(4 * TILE_ROWS),
    ])),
  ]));

  /** One product for all rows and columns of the tile. */
  const multiply = (k: number): Code => [
    b0.set(v128.load(at.b.get, 4 * TILE_COLUMNS * k)),
    b1.set(v128.load(at.b.get, 4 * TILE_COLUMNS * k + 16)),
    rows.map((row, r) => [
      one.set(v128.loadSplat(row.get, 4 * k)),
      sums[r]![0].set(v128.madd(one.get, b0.get, sums[r]![0].get)),
      sums[r]![1].set(v128.madd(one.get, b1.get, sums[r]![1].get)),
    ]),
  ];
  const forward = (count: number): Code => [at.b.step(4 * TILE_COLUMNS * count), rows.map((row) => row.step(4 * count))];
  const accumulate: Code = [
    sums.map(([low, high]) => [low.set(v128.load(at.b.get)), high.set(v128.load(at.b.get, 16))]),
    at.b.step(4 * TILE_COLUMNS),
    repeat(at.tap, at.taps.get, [
      rows.map((row, r) => row.set(i32.load(at.pointer.get, 4 * r))),
      at.pointer.step(4 * TILE_ROWS),
      repeat(at.k, i32.shr(at.depth.get, i32.const(2)), [[0, 1, 2, 3].map(multiply), forward(4)]),
      repeat(at.k, i32.and(at.depth.get, i32.const(3)), [multiply(0), forward(1)]),
    ]),
  ];
  const storeRow = ([low, high]: (typeof sums)[number]): Code => when(i32.lt(at.left.get, i32.const(TILE_COLUMNS)),
    [0, 1, 2, 3, 4, 5, 6].map((c) => when(i32.lt(i32.const(c), at.left.get), v128.storeLane(c % 4, at.y.get, (c < 4 ? low : high).get, 4 * c))),
    [v128.store(at.y.get, low.get), v128.store(at.y.get, high.get, 16)]);
  const write: Code = [
    at.rest.set(i32.sub(at.rowCount.get, i32.mul(at.tile.get, i32.const(TILE_ROWS)))),
    sums.map((pair, r) => when(i32.lt(i32.const(r), at.rest.get), [storeRow(pair), at.y.step(i32.shl(arg('columns'), i32.const(2)))])),
  ];
  return [
    at.matrix.set(i32.add(arg('x'), i32.mul(i32.div(unit.get, arg('blocks')), arg('xStride')))),
    at.row0.set(i32.mul(i32.rem(unit.get, arg('blocks')), i32.mul(arg('blockPanels'), i32.const(TILE_ROWS)))),
    at.rowCount.set(i32.min(i32.sub(arg('rows'), at.row0.get), i32.mul(arg('blockPanels'), i32.const(TILE_ROWS)))),
    at.tiles.set(i32.div(i32.add(at.rowCount.get, i32.const(TILE_ROWS - 1)), i32.const(TILE_ROWS))),
    at.taps.set(i32.mul(arg('kh'), arg('kw'))),
    at.depth.set(arg('depth')),
    at.panels.set(i32.shr(i32.add(arg('columns'), i32.const(TILE_COLUMNS - 1)), i32.const(3))),
    pointers,
    repeat(at.panel, at.panels.get, [
      at.left.set(i32.sub(arg('columns'), i32.mul(at.panel.get, i32.const(TILE_COLUMNS)))),
      repeat(at.tile, at.tiles.get, [
        at.b.set(i32.add(i32.add(arg('packed'), i32.mul(i32.div(unit.get, arg('blocks')), arg('packedStride'))),
          i32.mul(at.panel.get, i32.shl(i32.add(i32.const(1), i32.mul(at.taps.get, at.depth.get)), i32.const(5))))),
        at.pointer.set(i32.add(scratch.get, i32.mul(i32.mul(at.tile.get, at.taps.get), i32.const(4 * TILE_ROWS)))),
        at.y.set(i32.add(i32.add(arg('y'), i32.mul(i32.div(unit.get, arg('blocks')), arg('yStride'))),
          i32.shl(i32.add(i32.mul(i32.add(at.row0.get, i32.mul(at.tile.get, i32.const(TILE_ROWS))), arg('columns')), i32.mul(at.panel.get, i32.const(TILE_COLUMNS))), i32.const(2)))),
        accumulate,
        write,
      ]),
    ]),
  ];
};
