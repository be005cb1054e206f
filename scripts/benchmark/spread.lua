-- wrk's threads take turns among the ports that the environment names.
local ports, turn = {}, 0
for port in os.getenv("GLBD_BENCHMARK_PORTS"):gmatch("%d+") do
    ports[#ports + 1] = port
end

function setup(thread)
    turn = turn % #ports + 1
    thread.addr = wrk.lookup("127.0.0.1", ports[turn])[1]
end
