-- Take a job out of the list, after its files are gone. KEYS: base. ARGV: owner, entry, id. Returns how many entries went.
let_go(ARGV[1], ARGV[3])
return redis.call('XDEL', base .. 'jobs' .. of(ARGV[1]), ARGV[2])
