import { lazy, Suspense } from "react";
import { useParams } from "react-router";
import { useResource } from "@/kit/queries";
import { GenericRecord } from "@/kit/generic-record";
import { Skeleton } from "@/kit/states";
import { screenOf } from "@/resources";
import { SPECIAL_PAGES } from "@/special-pages";

/** Any record: the page written for its collection, or the one that the declaration gives. */
export function RecordPage() {
  const { collection = "", id = "" } = useParams();
  const special = screenOf(collection).detail;
  const Special = special ? pages[special] : undefined;
  const name = `${collection}/${id}`;
  if (Special)
    return (
      <Suspense fallback={<Skeleton lines={8} />}>
        <Special key={name} name={name} />
      </Suspense>
    );
  return <Declared key={name} collection={collection} name={name} />;
}

const pages = Object.fromEntries(Object.entries(SPECIAL_PAGES).map(([key, load]) => [key, lazy(load)]));

function Declared({ collection, name }: { collection: string; name: string }) {
  return <GenericRecord resource={useResource(collection)} name={name} />;
}
