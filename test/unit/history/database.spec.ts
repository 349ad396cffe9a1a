import Database from 'better-sqlite3';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { listBackups, makeBackup } from '../../../src-main/history/backup.ts';
import { historyFile, isDiskFull, openHistory } from '../../../src-main/history/database.ts';
import { lockHome } from '../../../src-main/history/lock.ts';
import { SCHEMA_VERSION } from '../../../src-main/history/migrations/index.ts';
import { ownerAlive, thisOwner } from '../../../src-main/history/owner.ts';
import { RunRecorder } from '../../../src-main/app/run-recorder.ts';
import { config, tempHome } from '../../helpers/temp-home.ts';

describe('the history file', () => {
  it('is WAL with foreign keys, shared by two connections', () => {
    const home = tempHome();
    const one = openHistory(home);
    const two = openHistory(home);
    expect(one.db.pragma('journal_mode', { simple: true })).toBe('wal');
    expect(one.db.pragma('foreign_keys', { simple: true })).toBe(1);
    const id = new RunRecorder(one).createRun({ name: 'shared', config: config() });
    expect(new RunRecorder(two).summary(id).name).toBe('shared');
    one.close();
    two.close();
  });

  it('from a newer app is refused with what to do', () => {
    const home = tempHome();
    const history = openHistory(home);
    history.db.pragma(`user_version = ${SCHEMA_VERSION + 10}`);
    history.close();
    expect(() => openHistory(home, { locked: true })).toThrow(/newer DRTune Studio.*schema/);
  });

  it('that is damaged is put aside and replaced by the newest good backup', () => {
    const home = tempHome();
    const first = openHistory(home);
    const recorder = new RunRecorder(first);
    const id = recorder.createRun({ name: 'kept', config: config() });
    makeBackup(first.db, home, Date.now());
    recorder.createRun({ name: 'after the backup', config: config() });
    first.close();
    writeFileSync(historyFile(home), 'this is no database, but long enough to look like one '.repeat(100));
    const second = openHistory(home, { locked: true });
    expect(second.notices[0]).toMatch(/damaged.*backup of .* is in use.*kept as history\.damaged-/);
    expect(new RunRecorder(second).runs.list().map((run) => run.id)).toEqual([id]);
    expect(readdirSync(home).some((name) => name.startsWith('history.damaged-'))).toBe(true);
    second.close();
  });

  it('that is damaged with no good backup starts empty and says so', () => {
    const home = tempHome();
    writeFileSync(historyFile(home), 'garbage '.repeat(1000));
    const history = openHistory(home);
    expect(history.notices[0]).toMatch(/no good backup/);
    expect(new RunRecorder(history).runs.list()).toEqual([]);
    history.close();
  });

  it('with damaged pages inside is found at the start of the app', () => {
    const home = tempHome();
    const first = openHistory(home);
    const recorder = new RunRecorder(first);
    for (let i = 0; i < 50; i++) recorder.createRun({ name: `run ${i}`, config: config({ prompts: ['long '.repeat(200)] }) });
    makeBackup(first.db, home, Date.now());
    first.close();
    const db = new Database(historyFile(home));
    db.pragma('wal_checkpoint(TRUNCATE)');
    db.close();
    const bytes = Buffer.alloc(8192, 0xff);
    const fs = process.getBuiltinModule('node:fs');
    const fd = fs.openSync(historyFile(home), 'r+');
    fs.writeSync(fd, bytes, 0, bytes.length, 4096 * 20);
    fs.closeSync(fd);
    const second = openHistory(home, { locked: true });
    expect(second.notices).toHaveLength(1);
    expect(new RunRecorder(second).runs.list()).toHaveLength(50);
    second.close();
  });

  it('that is damaged while an app holds the folder is left to that app', () => {
    const home = tempHome();
    writeFileSync(historyFile(home), 'garbage '.repeat(1000));
    const lock = lockHome(home);
    expect(() => openHistory(home)).toThrow(/damaged and another DRTune Studio is using it/);
    lock.release();
    openHistory(home).close();
  });

  it('is backed up at the start of the app, three backups are kept, a fresh one is not repeated', () => {
    const home = tempHome();
    openHistory(home, { locked: true }).close();
    expect(listBackups(home)).toEqual([]); // an empty history
    const start = Date.now();
    for (let i = 1; i <= 5; i++) {
      const now = start + i * 3_600_000;
      openHistory(home, { locked: true, now: () => now }).close();
      openHistory(home, { locked: true, now: () => now + 1000 }).close();
    }
    expect(listBackups(home)).toHaveLength(3);
    expect(listBackups(home)[0]).toContain(String(start + 5 * 3_600_000));
  });
});

describe('the lock of a data folder', () => {
  it('keeps a second app out and tells where the first one is', () => {
    const home = tempHome();
    const lock = lockHome(home);
    lock.announce('http://127.0.0.1:5180/?token=x');
    expect(() => lockHome(home)).toThrow(/already running on .* \(process \d+\)/);
    try {
      lockHome(home);
    } catch (error) {
      expect(error).toMatchObject({ code: 'busy', hint: 'Open http://127.0.0.1:5180/?token=x, or stop that one first.' });
    }
    lock.release();
    expect(existsSync(join(home, 'app.json'))).toBe(false);
    lockHome(home).release();
  });

  it('is not held by what a killed app left behind', () => {
    const home = tempHome();
    writeFileSync(join(home, 'app.json'), JSON.stringify({ pid: 999_999, address: 'http://old' }));
    writeFileSync(join(home, 'app.lock'), '');
    lockHome(home).release();
  });
});

describe('who owns a run', () => {
  it('knows this process as alive and others as gone', () => {
    expect(ownerAlive(thisOwner())).toBe(true);
    expect(ownerAlive('4194304:1')).toBe(false);
    expect(ownerAlive('nonsense')).toBe(false);
    if (process.platform === 'linux') expect(ownerAlive(`${process.pid}:12345`)).toBe(false); // the pid was given to another process
  });
});

it('a full disk is told from other errors', () => {
  expect(isDiskFull(new Database.SqliteError('database or disk is full', 'SQLITE_FULL'))).toBe(true);
  expect(isDiskFull(Object.assign(new Error('x'), { code: 'ENOSPC' }))).toBe(true);
  expect(isDiskFull(new Error('x'))).toBe(false);
  expect(isDiskFull(null)).toBe(false);
});
