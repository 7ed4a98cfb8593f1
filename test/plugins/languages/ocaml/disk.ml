(* A disk in OCaml, whose bytes the garbage collector moves; it says every call. *)
let disk = ref (Bytes.make (1 lsl 20) '\000')

let config key value =
  if key <> "word" then failwith ("no parameter " ^ key);
  prerr_endline (String.concat " " [ "config"; key; value ])

let read count offset =
  if offset = 666 * 512 then failwith "this sector is cursed";
  Gc.compact ();
  Bytes.sub !disk offset count

let write data offset =
  disk := Bytes.copy !disk;
  Bytes.blit data 0 !disk offset (Bytes.length data)

let () =
  Callback.register "say" prerr_endline;
  Callback.register "config" config;
  Callback.register "size" (fun () -> Bytes.length !disk);
  Callback.register "read" read;
  Callback.register "write" write
